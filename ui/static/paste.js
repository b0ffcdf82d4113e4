// A picture pasted anywhere on the page is asked with. Draws nothing.

let send = null;
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
  if (!file || !send) return;
  event.preventDefault();
  const reader = new FileReader();
  reader.onload = () => send({ name: file.name, content: reader.result.split(",", 2)[1] });
  reader.readAsDataURL(file);
});

export default function ({ setTriggerValue }) {
  const mine = (photo) => setTriggerValue("pasted", photo);
  send = mine;
  return () => {
    if (send === mine) send = null;
  };
}
