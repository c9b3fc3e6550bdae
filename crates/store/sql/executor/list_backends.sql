-- The backends of executors that take work now, each once.
SELECT DISTINCT backend FROM executor WHERE state = 'online'
