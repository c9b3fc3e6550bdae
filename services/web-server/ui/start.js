// The one button of the page of a workspace that is stopped.
const button = document.getElementById("start");
const csrf = () => (document.cookie.match(/(?:^|; )orrery_csrf=([^;]*)/) || [])[1] || "";

button.addEventListener("click", async () => {
  button.disabled = true;
  const answer = await fetch("/orrery.v1.RuntimeService/StartRuntime", {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrf() },
    body: JSON.stringify({ workspace: button.dataset.workspace }),
  });
  if (answer.ok) {
    location.reload();
    return;
  }
  const error = await answer.json().catch(() => ({}));
  button.disabled = false;
  button.insertAdjacentText("afterend", " " + (error.message || "it could not be started"));
});
