// What a person would find wrong with the page; sent to the page around this frame as JSON.
const wrong = [];
const width = innerWidth;
const name = element => element.tagName.toLowerCase() + (element.id ? "#" + element.id : "") + " " +
    JSON.stringify((element.textContent || "").trim().slice(0, 60));
const isSeen = element => element.getClientRects().length > 0;

// Nothing is wider than the page, unless it can be scrolled by itself.
if (document.documentElement.scrollWidth > width) {
    wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
}
for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (isSeen(element) && !element.closest(".scroll, svg") && (box.right > width + 0.5 || box.left < -0.5)) {
        wrong.push(`${name(element)} reaches from ${box.left} to ${box.right}`);
    }
}

// Words are seen against what lies behind them: WCAG's contrast, of which 4.5 is its limit for text.
const numbers = color => (color.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
const luminance = color => {
    const [r, g, b] = numbers(color).slice(0, 3).map(part => part / 255)
        .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
    for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        const parts = numbers(color);
        if (parts.length < 4 || parts[3] > 0) return color;
    }
    return "rgb(255, 255, 255)";
};
const contrast = (ink, paper) => {
    const [light, dark] = [luminance(ink), luminance(paper)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
};
for (const element of document.body.querySelectorAll("h1, h2, p, td, th, summary, pre, strong, svg text")) {
    if (!isSeen(element)) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const found = contrast(ink, behind(element));
    if (found < 4.5) wrong.push(`${name(element)} is faint: ${found.toFixed(1)}, ${ink} on ${behind(element)}`);
}

// Each picture has both of its labels, and no word is cut off, covered by another, or too small.
const labels = [];
let pictures = 0;
for (const picture of document.querySelectorAll(".picture")) {
    const svg = [...picture.querySelectorAll("svg")].filter(isSeen);
    if (svg.length !== 1) {
        wrong.push(`${svg.length} pictures are seen in one place`);
        continue;
    }
    pictures += 1;
    const frame = svg[0].getBoundingClientRect();
    const words = [...svg[0].querySelectorAll("text")].filter(word => word.textContent.trim() !== "");
    for (const label of [picture.dataset.x, picture.dataset.y]) {
        if (!words.some(word => word.textContent.trim() === label)) {
            wrong.push(`${picture.closest("section").id}: no word ${label} in the picture`);
        }
        labels.push(label);
    }
    const boxes = words.map(word => [word, word.getBoundingClientRect()]);
    boxes.forEach(([word, box], index) => {
        if (box.left < frame.left - 0.5 || box.right > frame.right + 0.5 ||
            box.top < frame.top - 0.5 || box.bottom > frame.bottom + 0.5) {
            wrong.push(`${picture.closest("section").id}: ${name(word)} is cut off`);
        }
        for (const [other, place] of boxes.slice(index + 1)) {
            const across = Math.min(box.right, place.right) - Math.max(box.left, place.left);
            const up = Math.min(box.bottom, place.bottom) - Math.max(box.top, place.top);
            if (across > 1 && up > 3) {
                wrong.push(`${picture.closest("section").id}: ${name(word)} covers ${name(other)}`);
            }
        }
        const size = parseFloat(getComputedStyle(word).fontSize) * frame.width / svg[0].viewBox.baseVal.width;
        if (size < 10) wrong.push(`${name(word)} has ${size} pixels`);
    });
}

// A name leaves room beside it for the first figure: a table that shows names alone is no table.
for (const cell of document.querySelectorAll("section tbody td:first-child")) {
    const share = cell.getBoundingClientRect().width / width;
    if (share > 0.6) wrong.push(`${name(cell)} takes ${Math.round(share * 100)} % of the width`);
}

const tables = {};
for (const section of document.querySelectorAll("section[id]")) {
    const rows = [...section.querySelectorAll("tr")];
    tables[section.id] = rows.map(row => [...row.children].map(cell => cell.textContent));
    if (rows.length < 2) wrong.push(`${section.id} has no table`);
}

parent.postMessage(JSON.stringify({
    width, is_dark: matchMedia("(prefers-color-scheme: dark)").matches, pictures, wrong, labels, tables,
}), "*");
