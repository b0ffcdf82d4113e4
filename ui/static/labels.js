// Draws what a photo looks like: words with their shares.

export default function ({ data, parentElement }) {
  parentElement.querySelector("h3").textContent = data.title;
  parentElement.querySelector("h3").hidden = data.labels.length === 0;
  parentElement.querySelector("ul").replaceChildren(
    ...data.labels.map(({ label, percent }) => {
      const [row, word, share] = ["li", "span", "span"].map((tag) => document.createElement(tag));
      word.textContent = label;
      share.textContent = `${percent} %`;
      row.style.setProperty("--share", `${percent}%`);
      row.append(word, share);
      return row;
    }),
  );
}
