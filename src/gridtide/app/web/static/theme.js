// Runs before the first paint (a classic script): the remembered theme, if any.
(function () {
  const key = "gridtide-theme";
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage may be barred; the system's theme is used then
    }
  };
  const saved = read();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;
  window.gridtideTheme = {
    toggle() {
      const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(key, root.dataset.theme);
      } catch {
        return; // shown for this visit only
      }
    },
  };
})();
