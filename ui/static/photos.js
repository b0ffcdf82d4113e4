// Draws photos as rows of links. What comes from files (names above all) goes in as text, never as HTML.

const element = (tag, className, text = "") => {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
};

// Drawn here, since not every font has such signs.
const SIGNS = {
  more: "M8 3v10M3 8h10",
  less: "M3 8h10",
  copy: "M6 6h7.5v7.5H6zM10 6V2.5H2.5V10H6",
  original: "M4 12l8-8M6 4h6v6",
  done: "M3 8.5l3.5 3.5L13 4.5",
};
const sign = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  svg.firstChild.setAttribute("d", SIGNS[name]);
  return svg;
};

const button = (className, label, act) => {
  const made = element("button", className);
  made.append(sign(className));
  made.type = "button";
  made.tabIndex = -1; // by the keyboard the photo's own keys do the same: one stop a photo
  made.title = label;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", (event) => {
    event.preventDefault();
    act(made);
  });
  return made;
};

const tools = (photo, { words, tools: wanted }, ask) => {
  const bar = element("span", "tools");
  if (wanted.includes("like")) {
    bar.append(
      button("more", `${words.more}: ${photo.name}`, () => ask("liked", photo.id)),
      button("less", `${words.less}: ${photo.name}`, () => ask("unliked", photo.id)),
    );
  }
  if (wanted.includes("path")) {
    bar.append(
      button("copy", `${words.copy_path}: ${photo.name}`, async (made) => {
        await navigator.clipboard.writeText(photo.path);
        made.replaceChildren(sign("done"));
        made.title = words.copied;
      }),
    );
    const original = element("a", "original");
    original.append(sign("original"));
    original.tabIndex = -1;
    Object.assign(original, { href: photo.original, target: "_blank", rel: "noopener", title: words.open });
    original.setAttribute("aria-label", `${words.open}: ${photo.name}`);
    bar.append(original);
  }
  return bar;
};

const tile = (photo, data, selected, ask) => {
  const item = document.createElement("li");
  item.style.setProperty("--ratio", photo.ratio);
  const link = document.createElement("a");
  link.className = "photo";
  link.href = photo.href;
  link.title = photo.name;
  link.addEventListener("click", (event) => {
    // A click that asks for a new tab or window is the browser's.
    if (data.follow || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    ask("opened", photo.id);
  });

  const picture = document.createElement("img");
  Object.assign(picture, { src: photo.image, alt: photo.alt, loading: "lazy", decoding: "async" });
  const frame = element("span", "frame");
  frame.append(picture);
  if (photo.missing) frame.append(element("span", "note", data.words.missing));

  const facts = element("span", "facts");
  for (const [name, value] of [["likeness", photo.likeness], ["distance", photo.distance], ["date", photo.date]]) {
    if (value) facts.append(element("span", name, value));
  }
  link.append(frame, element("span", "name", photo.name), facts);
  if (photo.why) link.append(element("span", "why", photo.why));
  item.append(link, tools(photo, data, ask));
  if (data.tools.includes("select")) {
    const box = document.createElement("input");
    box.tabIndex = -1;
    Object.assign(box, { type: "checkbox", checked: selected.has(photo.id), title: data.words.select });
    box.setAttribute("aria-label", `${data.words.select}: ${photo.name}`);
    box.addEventListener("change", () => {
      selected[box.checked ? "add" : "delete"](photo.id);
      item.classList.toggle("selected", box.checked);
      ask("selected", [...selected]);
    });
    item.classList.toggle("selected", box.checked);
    item.append(box);
  }
  const keys = { "+": ".more", "-": ".less", c: ".copy", o: ".original", x: "input" };
  link.setAttribute("aria-keyshortcuts", Object.keys(keys).filter((key) => item.querySelector(keys[key])).join(" "));
  link.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const next = { ArrowRight: item.nextElementSibling, ArrowLeft: item.previousElementSibling }[event.key];
    const act = item.querySelector(keys[event.key] ?? "none");
    if (!next && !act) return;
    event.preventDefault();
    (next?.querySelector("a") ?? act)[next ? "focus" : "click"]();
  });
  return item;
};

export default function ({ data, parentElement, setTriggerValue, setStateValue }) {
  const list = parentElement.querySelector("ol");
  const drawn = JSON.stringify(data);
  if (list.dataset.drawn === drawn) return;

  const toTop = () => parentElement.host?.closest(".stMain")?.scrollTo({ top: 0 });
  if (list.dataset.drawn && list.dataset.page !== data.page) toTop();
  list.dataset.page = data.page;
  const ask = (what, value) => {
    if (what === "selected") return setStateValue("selected", value);
    if (what === "opened") toTop();
    return setTriggerValue(what, value);
  };
  const hadFocus = list.contains(parentElement.activeElement);
  const selected = new Set(data.selected);
  list.replaceChildren(...data.photos.map((photo) => tile(photo, data, selected, ask)));
  list.setAttribute("aria-label", data.label);
  list.dataset.drawn = drawn;
  if (hadFocus) list.querySelector("a")?.focus({ preventScroll: true });
}
