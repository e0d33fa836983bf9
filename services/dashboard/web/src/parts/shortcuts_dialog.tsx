/** @jsxImportSource preact */
import { useEffect, useRef } from "preact/hooks";
import {
  shortcutGroups,
  shortcutsOn,
  turnShortcuts,
} from "../navigation/keys.ts";

/** Everything the keyboard does here and now. */
export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby="shortcuts-title"
      onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) dialog.current?.close();
      }}
    >
      <header class="card-head">
        <h2 id="shortcuts-title">Keyboard</h2>
        <button
          type="button"
          class="button"
          onClick={() => dialog.current?.close()}
        >
          Close
        </button>
      </header>
      {[...shortcutGroups.value].map(([group, shortcuts]) => (
        <div key={group}>
          <h3>{group}</h3>
          <dl class="keys">
            {shortcuts.map(({ keys, does }) => (
              <div key={keys}>
                <dt>
                  {keys.split(" ").map((key) => <kbd key={key}>{key}</kbd>)}
                </dt>
                <dd>{does}</dd>
              </div>
            ))}
          </dl>
        </div>
      ))}
      <label class="check">
        <input
          type="checkbox"
          checked={shortcutsOn.value}
          onChange={(event) => turnShortcuts(event.currentTarget.checked)}
        />
        Single-key shortcuts
      </label>
    </dialog>
  );
}
