// Draws the photo that is asked with: its picture, name and date; a part of it can be drawn on it.

const clamp = (value) => Math.min(Math.max(value, 0), 1);
const LEAST = 0.03; // of a side: less is a click, not a part

export default function ({ data, parentElement, setTriggerValue }) {
  const find = (selector) => parentElement.querySelector(selector);
  const picture = find("img");
  if (picture.getAttribute("src") !== data.image) picture.src = data.image;
  picture.alt = data.alt;
  picture.draggable = false;
  find("b").textContent = data.name;
  find("span").textContent = data.date;
  find("em").textContent = data.note;
  find("small").textContent = data.hint;
  const whole = find("button");
  whole.textContent = data.whole;
  whole.hidden = !data.region;
  whole.onclick = () => setTriggerValue("region", "whole"); // an empty text would not arrive

  const part = find("i");
  const show = (box) => {
    part.hidden = !box;
    if (box) ["left", "top", "width", "height"].forEach((side, at) => (part.style[side] = `${100 * box[at]}%`));
  };
  show(data.region);

  const stage = find("figure > div");
  const place = (event) => {
    const { left, top, width, height } = picture.getBoundingClientRect();
    return [clamp((event.clientX - left) / width), clamp((event.clientY - top) / height)];
  };
  let start = null;
  const box = (end) => [
    Math.min(start[0], end[0]),
    Math.min(start[1], end[1]),
    Math.abs(start[0] - end[0]),
    Math.abs(start[1] - end[1]),
  ];
  stage.onpointerdown = (event) => {
    if (event.button) return;
    start = place(event);
    stage.setPointerCapture(event.pointerId);
  };
  stage.onpointermove = (event) => start && show(box(place(event)));
  stage.onpointerup = (event) => {
    if (!start) return;
    const drawn = box(place(event));
    start = null;
    if (drawn[2] < LEAST || drawn[3] < LEAST) return show(data.region);
    setTriggerValue("region", drawn.map((side) => side.toFixed(3)).join(","));
  };
  stage.onpointercancel = () => {
    start = null;
    show(data.region);
  };
}
