/** Pictures of displays and programs. */
import { LabIcon } from "@jupyterlab/ui-components";
import displaySvg from "./display.svg";
import type { IProgram } from "./tokens";
import { NAME } from "./tokens";

export const displayIcon = new LabIcon({ name: `${NAME}:display`, svgstr: displaySvg });

/** Make the icon of a program from the administrator's SVG or URL. */
export const programIcon = ({ name, icon }: IProgram): LabIcon => {
  const svg = icon.trim();
  if (!svg) {
    return displayIcon;
  }
  if (svg.startsWith("<")) {
    return new LabIcon({ name: `${NAME}:program-${name}`, svgstr: svg });
  }
  const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
  image.setAttribute("href", svg);
  image.setAttribute("width", "24");
  image.setAttribute("height", "24");
  const frame = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  frame.setAttribute("viewBox", "0 0 24 24");
  frame.append(image);
  return new LabIcon({ name: `${NAME}:program-${name}`, svgstr: new XMLSerializer().serializeToString(frame) });
};
