// Going back to another page: Streamlit forgets what its address says after the "?", so it is loaded anew.

let page = null;
addEventListener("popstate", () => {
  if (page !== null && location.pathname !== `/${page}`) location.reload();
});

export default function ({ data }) {
  page = data.page;
}
