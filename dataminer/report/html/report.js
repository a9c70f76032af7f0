for (const list of document.querySelectorAll("[data-page]")) {
  const size = Number(list.dataset.page), items = [...list.children];
  if (items.length <= size) continue;
  const last = Math.ceil(items.length / size) - 1, pager = document.createElement("div");
  const back = document.createElement("button"), on = document.createElement("button");
  const told = document.createElement("span");
  let page = 0;
  const show = (to) => {
    page = Math.min(Math.max(to, 0), last);
    items.forEach((item, n) => { item.hidden = Math.floor(n / size) !== page; });
    const end = Math.min((page + 1) * size, items.length);
    told.textContent = `${page * size + 1}\u2013${end} of ${items.length}`;
    back.disabled = page === 0; on.disabled = page === last;
  };
  back.type = on.type = "button";
  back.textContent = "\u2190 Back"; on.textContent = "Next \u2192";
  back.onclick = () => show(page - 1); on.onclick = () => show(page + 1);
  pager.className = "pager"; pager.append(back, told, on);
  (list.closest("table") || list).after(pager);
  show(0);
}
