-- One change of quotas of persons at a time, that of a row too which is not there yet.
LOCK TABLE user_policy IN SHARE ROW EXCLUSIVE MODE
