-- What was decided about these triggers ($1) so far.
SELECT trigger_id, version, state, waiting, history, next_due FROM trigger_state WHERE trigger_id = ANY ($1::uuid[])
