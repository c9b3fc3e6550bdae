-- Notes each write of a unit; costs an insert for each.
CREATE TRIGGER history_unit AFTER INSERT OR UPDATE ON block_run FOR EACH ROW EXECUTE FUNCTION history.note_unit();
