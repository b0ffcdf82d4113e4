// Draws albums or classes as covers in a grid. What comes from people goes in as text, never as HTML.

const cover = (one, ask) => {
  const make = (tag, className, text = "") => {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const item = document.createElement("li");
  const link = make("a", one.dim ? "dim" : "");
  link.href = one.href;
  link.addEventListener("click", (event) => {
    // A click that asks for a new tab or window is the browser's.
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    ask(one.id);
  });
  link.addEventListener("keydown", (event) => {
    const next = { ArrowRight: item.nextElementSibling, ArrowLeft: item.previousElementSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    next.querySelector("a").focus();
  });
  const frame = make("span", "frame");
  if (one.image) {
    const picture = document.createElement("img");
    Object.assign(picture, { src: one.image, alt: one.alt, loading: "lazy", decoding: "async" });
    frame.append(picture);
  }
  const title = make("span", "title", one.title);
  title.title = one.title;
  link.append(frame, title, make("span", "note", one.note));
  item.append(link);
  return item;
};

export default function ({ data, parentElement, setTriggerValue }) {
  const list = parentElement.querySelector("ol");
  const drawn = JSON.stringify(data);
  if (list.dataset.drawn === drawn) return;
  const toTop = () => parentElement.host?.closest(".stMain")?.scrollTo({ top: 0 });
  if (list.dataset.drawn && list.dataset.page !== data.page) toTop();
  list.dataset.page = data.page;
  const ask = (id) => {
    toTop();
    setTriggerValue("opened", id);
  };
  list.replaceChildren(...data.covers.map((one) => cover(one, ask)));
  list.setAttribute("aria-label", data.label);
  list.dataset.drawn = drawn;
}
