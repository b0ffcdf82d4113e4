// Draws photos as rows of links. What comes from files (names above all) goes in as text, never as HTML.

const tile = ({ id, href, image, alt, name, date, distance, ratio, missing }, open) => {
  const link = document.createElement("a");
  link.href = href;
  link.title = name;
  link.style.setProperty("--ratio", ratio);
  link.addEventListener("click", (event) => {
    // A click that asks for a new tab or window is the browser's.
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    open(id);
  });

  const picture = document.createElement("img");
  Object.assign(picture, { src: image, alt, loading: "lazy", decoding: "async" });
  const frame = element("span", "frame");
  frame.append(picture);
  if (missing) frame.append(element("span", "note", "File not found"));

  const facts = element("span", "facts");
  if (distance) facts.append(element("span", "distance", distance));
  if (date) facts.append(element("span", "date", date));
  link.append(frame, element("span", "name", name), facts);

  const item = document.createElement("li");
  item.append(link);
  return item;
};

const element = (tag, className, text = "") => {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
};

export default function ({ data, parentElement, setTriggerValue }) {
  const list = parentElement.querySelector("ol");
  const drawn = JSON.stringify(data.photos);
  if (list.dataset.drawn === drawn) return;

  const open = (id) => {
    parentElement.host?.closest(".stMain")?.scrollTo({ top: 0 });
    setTriggerValue("opened", id);
  };
  const hadFocus = list.contains(parentElement.activeElement);
  list.replaceChildren(...data.photos.map((photo) => tile(photo, open)));
  list.setAttribute("aria-label", data.label);
  list.dataset.drawn = drawn;
  if (hadFocus) list.querySelector("a")?.focus({ preventScroll: true });
}
