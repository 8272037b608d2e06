// Questions to our own server. Nothing here goes anywhere else.

export class Problem extends Error {
  constructor(status, error, remedy) {
    super(error);
    this.status = status;
    this.remedy = remedy || "";
  }
}

const LOST = "The server has stopped. Start it again, then reload.";
const MEGABYTES = 100;

async function answerOf(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, LOST);
  }
  if (response.ok) return response;
  let said = {};
  try {
    said = await response.json();
  } catch {
    said = { error: `The server answered ${response.status}.` };
  }
  throw new Problem(response.status, said.error, said.remedy);
}

export async function get(path) {
  return (await answerOf(fetch(path))).json();
}

function ask(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return answerOf(fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

export async function post(path, body, signal) {
  return (await ask(path, body, signal)).json();
}

export async function send(file) {
  if (file.size > MEGABYTES * 1e6) throw new Problem(413, `Over ${MEGABYTES} MB.`);
  const headers = { "content-type": "application/octet-stream" };
  return (await answerOf(fetch("v1/uploads", { method: "POST", headers, body: file }))).json();
}

export async function playlist(ids) {
  return (await ask("v1/playlist.m3u8", { ids })).blob();
}

// Why a player could not play: the file is gone, or the browser does not know the format.
export async function whyNotPlayed(url) {
  if (url.startsWith("blob:")) return new Problem(415, "Your browser cannot play this format.");
  try {
    await answerOf(fetch(url, { headers: { range: "bytes=0-0" } }));
  } catch (problem) {
    return problem;
  }
  return new Problem(415, "Your browser cannot play this format.");
}
