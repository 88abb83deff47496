for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  headings.forEach((heading, column) => heading.querySelector("button")?.addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort");
    const numbers = [...body.rows].some((row) => row.cells[column].dataset.value !== undefined);
    const down = before ? before === "ascending" : numbers;
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => {
      const x = key(a, column), y = key(b, column);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = numbers ? x - y : x.localeCompare(y);
      return down ? -order : order;
    }));
  }));
}
const filter = document.getElementById("filter"), runs = [...document.querySelectorAll("#runs > details")];
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const run of runs) {
    const text = run.querySelector("summary").textContent.toLowerCase();
    run.hidden = !words.every((word) => text.includes(word));
  }
  const shown = runs.filter((run) => !run.hidden).length;
  document.getElementById("shown").textContent = `${shown} of ${runs.length} shown`;
});
