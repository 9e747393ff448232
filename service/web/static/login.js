// Trades the token for a session cookie, then goes on to the page that was asked for.

const form = document.getElementById("login");
const error = document.getElementById("error");

function destination() {
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  const target = new URL(next, location.origin);
  return target.origin === location.origin ? target.pathname : "/";
}

async function logIn(token) {
  const answer = await fetch("/login", {
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
