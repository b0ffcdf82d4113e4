// Draws groups of photos side by side. What comes from files (names above all) goes in as text, never as HTML.

const element = (tag, className = "", text = "") => {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
};

const photoOf = (photo, words, mark) => {
  const item = element("li", photo.proposed ? "proposed" : "");
  item.classList.toggle("spare", photo.spare);
  const link = element("a", "picture");
  Object.assign(link, { href: photo.original, target: "_blank", rel: "noopener", title: words.open });
  const picture = document.createElement("img");
  Object.assign(picture, { src: photo.image, alt: photo.alt, loading: "lazy", decoding: "async" });
  link.append(picture);
  item.append(link);
  if (photo.proposed) item.append(element("span", "badge", words.proposed));
  item.append(element("b", "", photo.name));
  const facts = element("ul");
  for (const { text, differs } of photo.facts) facts.append(element("li", differs ? "differs" : "", text));
  item.append(facts);
  if (photo.note) item.append(element("p", "note", photo.note));

  const label = element("label");
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", checked: photo.spare, value: String(photo.id) });
  box.setAttribute("aria-label", `${words.spare}: ${photo.name}`);
  box.addEventListener("change", () => {
    item.classList.toggle("spare", box.checked);
    mark({ id: photo.id, spare: box.checked });
  });
  label.append(box, element("span", "", words.spare));
  item.append(label);
  return item;
};

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("article");
  const drawn = JSON.stringify(data);
  if (root.dataset.drawn === drawn) return;
  const focused = parentElement.activeElement ?? parentElement.querySelector("input:focus");
  const value = focused?.value;
  root.replaceChildren(
    ...data.groups.map((group) => {
      const section = element("section");
      const title = element("h3", "", group.title);
      title.append(element("span", "", group.reason));
      if (group.photos.every((photo) => photo.spare)) title.append(element("em", "", data.words.none_kept));
      const list = element("ol");
      list.setAttribute("aria-label", group.title);
      list.append(...group.photos.map((photo) => photoOf(photo, data.words, (one) => setTriggerValue("marked", one))));
      section.append(title, list);
      return section;
    }),
  );
  root.dataset.drawn = drawn;
  if (value) root.querySelector(`input[value="${CSS.escape(value)}"]`)?.focus({ preventScroll: true });
}
