import { selection } from "./selection.js";

// What the page knows: what the service said last, and the calls since.

export const state = {
  connected: false,
  rights: [],
  labels: new Set(), // names of labels that calls have
  selected: null, // what the totals below are of
  session: null, // the cost of the current session
  today: null,
  cost: null,
  models: [], // totals by provider and model
  chart: null,
  sessions: null, // totals by session, once their list is open
  calls: [],
  next: null, // the position of the next page of calls
  seen: new Set(), // ids of calls that are in the totals
  budgets: [],
};

// Return the label that a list is by: the selected one, or else the first one that calls have.
export const shownLabel = () => selection.by || [...state.labels][0] || "";
