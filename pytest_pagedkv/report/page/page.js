"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // A link from the table opens what it leads to.
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    const details = target && target.closest("details");
    if (details) {
      details.open = true;
      details.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();

  // What is closed would not be printed.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all(".bench:not([open]):not([hidden])");
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));

  const body = document.querySelector(".overview tbody");
  const form = document.querySelector(".filters");
  if (!body || !form) return;
  const [name, status, count] = ["input", "select", "output"].map((each) => form.querySelector(each));

  const filter = () => {
    const words = name.value.toLowerCase().split(/\s+/);
    const rows = all("tr", body);
    rows.forEach((row) => {
      const isNamed = words.every((word) => row.cells[1].textContent.toLowerCase().includes(word));
      row.hidden = !isNamed || (status.value !== "" && status.value !== row.dataset.status);
      document.querySelector(row.querySelector("a").hash).closest("details").hidden = row.hidden;
    });
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  name.addEventListener("input", filter);
  status.addEventListener("change", filter);
  form.hidden = false;
  filter();

  // Numbers by size, names by letters; what has neither stays last.
  const compared = (first, second) => {
    const isNumeric = !Number.isNaN(+first) && !Number.isNaN(+second);
    return isNumeric ? first - second : first.localeCompare(second);
  };
  const key = (cell) => cell.tagName === "TH" ? cell.textContent : cell.dataset.sort;
  const sort = (index, sign) => {
    const rows = all("tr", body).map((row) => [key(row.cells[index]), row]);
    const isAbsent = (row) => row[0] === undefined;
    rows.sort((a, b) => isAbsent(a) || isAbsent(b) ? isAbsent(a) - isAbsent(b) : sign * compared(a[0], b[0]));
    body.append(...rows.map((row) => row[1]));
  };
  const heads = all(".overview thead th");
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.ariaSort === "ascending" ? "descending" : "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.ariaSort = direction;
      sort(index, direction === "ascending" ? 1 : -1);
    });
  });
})();
