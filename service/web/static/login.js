// Trades the token for a session cookie, then goes on to the page that was asked for.

const form = /** @type {any} */ (document.getElementById("login"));
const error = document.getElementById("error");
const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, ""); // the prefix of a proxy, or empty

// The address of the page in `next`, a path below the prefix; of the first page where it leads elsewhere.
function destination() {
  const first = `${location.origin}${ROOT}/`;
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  try {
    const target = new URL(ROOT + next, first);
    return target.href.startsWith(first) && !target.pathname.startsWith("//") ? target.href : first;
  } catch {
    return first; // no address
  }
}

async function logIn(token) {
  const answer = await fetch(`${ROOT}/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (answer.ok) return location.replace(destination());
  error.textContent = (await answer.json()).detail;
  error.hidden = false;
  form.token.select();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  logIn(form.token.value).catch(() => {
    error.textContent = "The server does not answer.";
    error.hidden = false;
  });
});
