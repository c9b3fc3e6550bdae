-- $1 node
SELECT name FROM node WHERE id = $1
