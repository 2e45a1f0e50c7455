"use strict";
// Without this script all samples stand below each other; with it, the slider shows one of them.
const slider = document.getElementById("sample-slider");
if (slider) {
  const samples = [...document.querySelectorAll("#samples figure")];
  const show = () => {
    const chosen = slider.valueAsNumber - 1;
    samples.forEach((figure, index) => { figure.hidden = index !== chosen; });
    slider.setAttribute("aria-valuetext", samples[chosen].querySelector("img").alt);
    document.getElementById("sample-place").textContent = slider.value;
  };
  slider.addEventListener("input", show);
  slider.closest(".controls").hidden = false;
  show();
}
