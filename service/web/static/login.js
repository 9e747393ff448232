// Exchanges the token for a session cookie, then opens the requested page.

const form = /** @type {any} */ (document.getElementById("login"));
const error = document.getElementById("error");
const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, ""); // the path prefix of a proxy, or empty

// The URL of the page in `next`, a path below the prefix. For a path that leads to another site, the first page instead (no open redirect).
function destination() {
  const first = `${location.origin}${ROOT}/`;
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  try {
    const target = new URL(ROOT + next, first);
    return target.href.startsWith(first) && !target.pathname.startsWith("//") ? target.href : first;
  } catch {
    return first; // `next` is not a valid path
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
