// What went wrong, in words, and what to do about it.

export class Fault extends Error {
  // status: of HTTP; 0 where no answer came.   param: the field of the request that is at fault, if the server says so.
  constructor(message, { status = 0, code = null, param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

// The fault that a response tells of, in OpenAI's shape or any other.
export async function faultOf(response) {
  const text = await response.text().catch(() => "");
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  const retryAfter = Number.isFinite(seconds) ? seconds : null;
  try {
    const { error, detail } = JSON.parse(text);
    const said = error?.message ?? (typeof error === "string" ? error : null) ?? (typeof detail === "string" ? detail : null);
    if (said) {
      return new Fault(said, { status: response.status, code: error?.code, param: error?.param, retryAfter });
    }
  } catch {
    // not JSON: a proxy's page, perhaps
  }
  const words = `The server answered with status ${response.status}${response.statusText ? ` (${response.statusText})` : ""}`;
  return new Fault(words, { status: response.status, retryAfter });
}

export function advice(fault) {
  const { status, retryAfter, param } = fault;
  if (status === 0) return "Look whether the server still runs (slm serve), then try again.";
  if (status === 401) return "Enter the key that the server was started with.";
  if (status === 403) return "Start slm serve with that option, or open this page under a name that the server knows.";
  if (status === 404) return "Choose another model at the top of the page.";
  if (status === 408) return "Ask for a shorter answer, or try again when the server has less to do.";
  if (status === 413) return "Send fewer or smaller images, or a shorter text.";
  if (status === 429 || status === 503) {
    return retryAfter ? `Many are asking; try again in ${retryAfter} s.` : "The server has too much to do; try again in a moment.";
  }
  if (status >= 500) return "The server's log has more; try again.";
  return param ? "Change the option that is marked, then try again." : "Change the prompt or the options, then try again.";
}

// With a full stop, so that another sentence can follow.
export function sentence(text) {
  const whole = text.trim();
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
