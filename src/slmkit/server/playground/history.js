// Conversations in this browser's own database; where that is closed they last as long as the page.

const DATABASE = "slmkit";
const STORE = "conversations";

let opening = null;
const meanwhile = new Map();

function database() {
  opening ??= new Promise((resolve) => {
    let request;
    try {
      request = indexedDB.open(DATABASE, 1);
    } catch {
      return resolve(null);
    }
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => resolve(null);
  });
  return opening;
}

async function run(mode, work) {
  const base = await database();
  if (!base) throw new Error("closed");
  const transaction = base.transaction(STORE, mode);
  const request = work(transaction.objectStore(STORE));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

export const isKept = async () => (await database()) !== null;

// All of them, the latest first.
export async function all() {
  const found = await run("readonly", (store) => store.getAll()).catch(() => [...meanwhile.values()]);
  return found.sort((a, b) => b.updated - a.updated);
}

// Keeps a copy. False if it could not be written, as on a full disk; it then lasts as long as the page.
export async function save(conversation) {
  const copy = structuredClone(conversation);
  meanwhile.set(copy.id, copy);
  return run("readwrite", (store) => store.put(copy)).then(() => true, () => false);
}

export async function remove(id) {
  meanwhile.delete(id);
  await run("readwrite", (store) => store.delete(id)).catch(() => {});
}
