import type { RegistryCall } from "./registry-call.ts";
import { nextLink } from "./tag-page.ts";
import type { Answer } from "./answer.ts";

export interface PagesOptions {
  readonly accept: string;
  /** Largest page. */
  readonly limitBytes: number;
  /** As many as there are, if not given. */
  readonly maxPages?: number;
}

/**
 * Reads a list page by page, as its `Link` headers say, at the registry alone.
 *
 * @throws {RegistryError} if the registry does not give a page, gives too many, or leads in a circle.
 */
export async function* readPages(
  call: RegistryCall,
  first: URL,
  { accept, limitBytes, maxPages = Infinity }: PagesOptions,
): AsyncGenerator<Answer, void> {
  const seen = new Set<string>();
  let url: URL | undefined = first;
  while (url) {
    if (seen.size === maxPages) throw call.badAnswer(`lists more than ${maxPages} pages`);
    if (seen.has(url.href)) throw call.badAnswer("lists the same page twice");
    seen.add(url.href);
    const page: Answer = await call.ask({ method: "GET", url, accept, limitBytes });
    yield page;
    url = nextPage(page, url, call);
  }
}

/** The address of the page after one. */
export function nextPage({ header }: Answer, current: URL, call: RegistryCall): URL | undefined {
  const target = nextLink(header("link"));
  if (target === undefined) return undefined;
  const url = URL.parse(target, current);
  if (url?.origin === current.origin && url.username === "" && url.password === "") return url;
  throw call.notAllowed("its next page of tags is on another host");
}
