// What all pages have: sections with links to them, the theme, and help on the keys.

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = `Theme: ${theme}`;
  try { localStorage.setItem("theme", theme); } catch { /* a page from a file may have no storage */ }
}

function nextTheme() {
  const current = document.documentElement.dataset.theme ?? "system";
  setTheme(THEMES[(THEMES.indexOf(current) + 1) % THEMES.length]);
}

const FRAME_KEYS = [
  ["t", "theme: system, light, dark", nextTheme],
  ["?", "this help", () => document.getElementById("help").showModal()],
];

/**
 * Fills the page.
 * @param {(Node|null)[]} made sections @param {string[][]} keys each with what it does
 */
function startPage(made, keys) {
  const sections = made.filter(Boolean);
  document.getElementById("main").append(...sections);
  document.getElementById("sections").append(...sections.map((part) => element("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
  document.getElementById("help").append(element("h2", { id: "help-title" }, "Keys"),
    element("dl", {}, ...keys.flatMap(([key, text]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, text)])),
    element("form", { method: "dialog" }, element("button", {}, "Close")));
  document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
  document.getElementById("theme").addEventListener("click", nextTheme);
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* as above */ }
  if (THEMES.includes(theme)) setTheme(theme);
}
