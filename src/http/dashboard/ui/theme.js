// Before anything is painted: the scheme that was chosen here, else the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem('theme'); } catch { /* private windows may have none */ }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
