// Draws the photo that is asked with: its picture, name and date. The words go in as text.

export default function ({ data, parentElement }) {
  const find = (selector) => parentElement.querySelector(selector);
  const picture = find("img");
  if (picture.getAttribute("src") !== data.image) picture.src = data.image;
  picture.alt = `The photo asked with: ${data.name}`;
  find("b").textContent = data.name;
  find("span").textContent = data.date;
  find("em").textContent = data.note;
}
