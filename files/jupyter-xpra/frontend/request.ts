/** The server's API. */
import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";
import type { IDisplay, IStatus, IUsage, IWish } from "./tokens";

/** The server refuses, and says why. */
export class RefusedError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** The reason as a word. */
    readonly word: string,
    readonly log: string,
  ) {
    super(message);
  }
}

export class Requests {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  status(): Promise<IStatus> {
    return this.json("status");
  }

  async list(): Promise<readonly IDisplay[]> {
    return (await this.json<{ displays: readonly IDisplay[] }>("displays")).displays;
  }

  create(wish: IWish): Promise<IDisplay> {
    return this.json("displays", { method: "POST", body: JSON.stringify(wish) });
  }

  rename(id: string, name: string): Promise<IDisplay> {
    return this.json(`displays/${id}`, { method: "PATCH", body: JSON.stringify({ name }) });
  }

  async remove(id: string): Promise<void> {
    await this.ask(`displays/${id}`, { method: "DELETE" });
  }

  usage(id: string): Promise<IUsage> {
    return this.json(`displays/${id}/usage`);
  }

  async thumbnail(id: string): Promise<Blob> {
    return (await this.ask(`displays/${id}/thumbnail`)).blob();
  }

  private async json<T>(path: string, init: RequestInit = {}): Promise<T> {
    return (await (await this.ask(path, init)).json()) as T;
  }

  private async ask(path: string, init: RequestInit = {}): Promise<Response> {
    const url = URLExt.join(this.settings.baseUrl, "xpra/api", path);
    const answer = await ServerConnection.makeRequest(url, init, this.settings);
    if (!answer.ok) {
      const said = (await answer.json().catch(() => ({}))) as { message?: string; cause?: string; log?: string };
      throw new RefusedError(said.message ?? answer.statusText, answer.status, said.cause ?? "", said.log ?? "");
    }
    return answer;
  }
}
