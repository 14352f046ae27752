//go:build tools

// Package tools names Prometheus, so that go.mod and go.sum pin it.
package tools

import _ "github.com/prometheus/prometheus/cmd/prometheus"
