document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!("sort" in head.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const number = head.dataset.sort === "number";
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (!number) return down ? y.localeCompare(x) : x.localeCompare(y);
        if (x === "" || y === "") return (x === "") - (y === "");
        return down ? y - x : x - y;
      };
      const body = table.tBodies[0];
      const rows = [...body.rows].sort(order);
      const more = rows.filter((row) => row.classList.contains("more")).length;
      rows.forEach((row, i) => row.classList.toggle("more", i >= rows.length - more));
      body.append(...rows);
    });
  });
});
