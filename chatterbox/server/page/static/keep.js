// Browser storage: takes in IndexedDB, the draft in local storage.
// Touches no element. If the browser stores nothing (a private window), data lasts until the reload.

const MOST_TAKES = 20;
const DRAFT = "chatterbox.draft";
const STORE = "takes";

let memory = []; // newest first

const opened = new Promise((resolve) => {
  const request = indexedDB.open("chatterbox", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => resolve(null);
});

async function inStore(mode, act) {
  const database = await opened;
  if (!database) return undefined;
  return new Promise((resolve) => {
    const transaction = database.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => resolve(undefined); // the disk is full
  });
}

/** Loads all takes, newest first. */
export async function readTakes() {
  const kept = (await inStore("readonly", (store) => store.getAll())) ?? [];
  return (memory = kept.sort((a, b) => b.id - a.id));
}

/** Stores a take under the next number, and drops all but the last 20 without a star. */
export async function keepTake(take) {
  const kept = { ...take, id: 1 + (memory[0]?.id ?? 0), at: Date.now() };
  const old = [kept, ...memory].filter(({ star }) => !star).slice(MOST_TAKES);
  memory = [kept, ...memory].filter((one) => !old.includes(one));
  await inStore("readwrite", (store) => {
    for (const { id } of old) store.delete(id);
    return store.put(kept);
  });
  return kept;
}

/** Sets or clears a take's star. */
export async function starTake(take) {
  take.star = !take.star;
  await inStore("readwrite", (store) => store.put(take));
}

export async function dropTake(id) {
  memory = memory.filter((take) => take.id !== id);
  await inStore("readwrite", (store) => store.delete(id));
}

/** The takes in memory, newest first. */
export const takes = () => memory;

/** The saved draft, `{text, voice, settings}`, or nothing. */
export function readDraft() {
  try {
    return JSON.parse(localStorage.getItem(DRAFT)) ?? {};
  } catch {
    return {};
  }
}

export const keepDraft = (draft) => localStorage.setItem(DRAFT, JSON.stringify(draft));
