-- Whether anybody is there.
SELECT EXISTS (SELECT 1 FROM user_account)
