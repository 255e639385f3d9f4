"use strict";
// Sorting, and opening the run that a score links to. The page reads the same without this.
(() => {
  const open = () => {
    const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
    const details = target && target.closest("details");
    if (details) {
      details.open = true;
      details.scrollIntoView({ block: "start" });
    }
  };
  window.addEventListener("hashchange", open);
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a.value") : null;
    // A second click on the same score changes no hash.
    if (link && link.hash === location.hash) open();
  });
  open();

  const table = document.getElementById("scores");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = Array.from(table.querySelectorAll("th[data-col]"));
  const collator = new Intl.Collator(undefined, { numeric: true });

  const read = (row, column) => {
    const value = row.cells[column].dataset.v;
    if (value === undefined) return null;
    return column === 0 ? value : Number(value);
  };
  const sort = (head, bestFirst) => {
    const rows = Array.from(body.rows);
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    const byOrder = (a, b) => Number(a.dataset.order) - Number(b.dataset.order);
    if (!head) {
      rows.sort(byOrder);
    } else {
      const column = Number(head.dataset.col);
      const rising = (head.dataset.best === "low") === bestFirst;
      rows.sort((a, b) => {
        const left = read(a, column);
        const right = read(b, column);
        // A row without a score is last either way.
        if (left === null || right === null) return (left === null) - (right === null) || byOrder(a, b);
        const way = column === 0 ? collator.compare(left, right) : left - right;
        return (rising ? way : -way) || byOrder(a, b);
      });
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    }
    rows.forEach((row) => body.append(row));
  };

  // Narrow screens show rows as cards, without the table's head: a list does the sorting there.
  const label = document.createElement("label");
  label.className = "sort";
  const select = document.createElement("select");
  const add = (words, value) => {
    const option = document.createElement("option");
    option.textContent = words;
    option.value = value;
    select.append(option);
  };
  add("most columns led", "");
  heads.forEach((head, position) => add(head.dataset.label, String(position)));
  label.append("Sort by ", select);
  select.addEventListener("change", () => sort(select.value === "" ? null : heads[Number(select.value)], true));
  table.parentElement.before(label);

  heads.forEach((head, position) => {
    const sorter = head.querySelector(".sorter");
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by " + head.dataset.label + "; a third click brings the first order back";
    button.append(...sorter.childNodes);
    sorter.replaceWith(button);
    let clicks = 0;
    button.addEventListener("click", () => {
      clicks = head.hasAttribute("aria-sort") ? clicks + 1 : 1;
      sort(clicks > 2 ? null : head, clicks === 1);
      select.value = clicks > 2 ? "" : String(position);
    });
  });
})();
