// Sets light or dark before the first paint, so that nothing flashes. `theme` in the address wins over what was chosen last.
(() => {
  const wanted = new URLSearchParams(location.search).get("theme");
  let theme = wanted;
  if (theme !== "light" && theme !== "dark") {
    try { theme = localStorage.getItem("crewmeter-theme"); } catch { theme = null; }
  }
  if (theme !== "light" && theme !== "dark") theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
})();
