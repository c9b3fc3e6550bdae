-- Lines as they came, as rows of the binary form; the log pool's connections commit without waiting for the disk.
COPY log_line (run_id, at, block, child, lease, level, stream, message, block_type) FROM STDIN BINARY
