-- Everybody who is an owner, locked in one order until the transaction ends, so that two changes at once leave one.
SELECT id FROM user_account WHERE role = 'owner' AND disabled_at IS NULL ORDER BY id FOR UPDATE
