// Before anything is painted: the theme that was chosen here before, so that a dark page never flashes white.
try {
  const theme = localStorage.getItem("slmkit.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing follows the system.
}
