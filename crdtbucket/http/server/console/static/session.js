// Signing in. The cookie is the browser's, which no script can read; this page has only the proof that
// a request which changes something must carry.

let proof = "";

export const session = { admin: false, open: true, signedIn: false };

const address = (path) => new URL(path, import.meta.url);

async function told(response) {
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? `status ${response.status}`);
  return answer;
}

function take(answer) {
  proof = answer.proof;
  session.admin = answer.admin;
  session.open = answer.open;
  session.signedIn = answer.signed_in;
}

export async function get(path) {
  return told(await fetch(address(path), { cache: "no-store" }));
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Console-Proof": proof };
  return told(await fetch(address(path), { method: "POST", headers, body: JSON.stringify(body) }));
}

export const look = async () => take(await get("session"));
export const signIn = async (token) => take(await post("sign-in", { token }));
export const signOut = async () => take(await post("sign-out", {}));
