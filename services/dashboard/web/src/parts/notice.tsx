/** @jsxImportSource preact */
import type { ComponentChildren } from "preact";
import { ApiFailure } from "../data/api.ts";
import { tame } from "./foreign.tsx";

interface NoticeProps {
  readonly title: string;
  readonly children?: ComponentChildren;
  readonly tone?: "quiet" | "error";
}

/** Stands where content would: what is the case, and what to do. */
export function Notice({ title, children, tone = "quiet" }: NoticeProps) {
  return (
    <div class={`notice ${tone}`} role={tone === "error" ? "alert" : "status"}>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

interface FailureProps {
  readonly failure: Error;
  readonly retry?: () => void;
}

/** Why something could not be shown, in the words of the service. */
export function Failure({ failure, retry }: FailureProps) {
  return (
    <Notice title={titleOf(failure)} tone="error">
      <p>{tame(failure.message, 500)}</p>
      <p class="muted">{adviceFor(failure)}</p>
      {retry && (
        <button type="button" class="button" onClick={retry}>Try again</button>
      )}
    </Notice>
  );
}

function titleOf(failure: Error): string {
  if (!(failure instanceof ApiFailure)) return "This view failed";
  if (failure.status === 0) return "No connection";
  if (failure.status === 400) return "This filter cannot be used";
  if (failure.status === 404) return "Not found";
  return "The service refused";
}

function adviceFor(failure: Error): string {
  if (!(failure instanceof ApiFailure)) {
    return "Reload the page. When it comes back, report it with this text.";
  }
  if (failure.status === 0) {
    return "Is the dashboard process running? Its log is .quetzal/logs/dashboard.log. " +
      "The page goes on by itself as soon as there is an answer.";
  }
  if (failure.status === 400) {
    return "Correct the value, or clear the filters.";
  }
  if (failure.status === 404) {
    return "It may have been removed by retention, left out by sampling, or its spans are still on their way.";
  }
  if (failure.status === 401) return "Log in with the dashboard's token.";
  return "The log of the dashboard process tells more.";
}
