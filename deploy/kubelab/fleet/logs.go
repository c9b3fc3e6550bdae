package fleet

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// Longer lines are cut into parts, as runtimes do.
	lineMost = 16 << 10
	// So much of a log's end becomes the message of a container that failed.
	tailBytes = 2 << 10
)

// containerLog writes lines in the format of container runtimes, which Kubernetes' own reader understands.
type containerLog struct {
	mu   sync.Mutex
	file *os.File
	ends []byte
	open []*logStream
}

func openLog(path string) (*containerLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &containerLog{file: file}, nil
}

// stream is the writer for stdout or stderr.
func (l *containerLog) stream(name string) io.Writer {
	made := &logStream{log: l, name: name}
	l.open = append(l.open, made)
	return made
}

// tail is the end of the log, without times.
func (l *containerLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.ends)
}

// close writes what has no end of line yet.
func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, stream := range l.open {
		if len(stream.rest) > 0 {
			l.line(stream.name, 'F', stream.rest)
		}
	}
	_ = l.file.Close()
}

func (l *containerLog) line(stream string, part byte, text []byte) {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	_, _ = fmt.Fprintf(l.file, "%s %s %c %s\n", now, stream, part, text)
	l.ends = append(append(l.ends, text...), '\n')
	if extra := len(l.ends) - tailBytes; extra > 0 {
		l.ends = l.ends[extra:]
	}
}

type logStream struct {
	log  *containerLog
	name string
	rest []byte
}

// Write never fails: a full disk must not end a process by a broken pipe.
func (s *logStream) Write(text []byte) (int, error) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.rest = append(s.rest, text...)
	for {
		end := bytes.IndexByte(s.rest, '\n')
		switch {
		case end >= 0 && end <= lineMost:
			s.log.line(s.name, 'F', s.rest[:end])
			s.rest = s.rest[end+1:]
		case len(s.rest) > lineMost:
			s.log.line(s.name, 'P', s.rest[:lineMost])
			s.rest = s.rest[lineMost:]
		default:
			return len(text), nil
		}
	}
}
