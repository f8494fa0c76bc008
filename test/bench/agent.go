package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// measureAgent measures the memory of one real agent, all its processes, that
// runs the demo product.
func measureAgent(ctx context.Context, s settings, t *table) error {
	r, err := newRig(ctx, s, "", 0, 1000, "")
	if err != nil {
		return err
	}
	defer r.stop()
	if _, err := r.rollout(ctx, s.headgate, 2000); err != nil {
		return err
	}
	var tok struct {
		Token string `json:"token"`
	}
	out, err := r.headgate(ctx, s.headgate, "tenant", "token", "bench")
	if err == nil {
		err = json.Unmarshal(out, &tok)
	}
	if err != nil {
		return fmt.Errorf("read the enrolment token: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "enrol.token"), []byte(tok.Token), 0o600); err != nil {
		return err
	}
	if _, err := r.headgate(ctx, s.headgate, "agent", "enrol", "--dir", "agent", "--enrolment-token-file", "enrol.token", "--name", "bench-agent", "--product", product); err != nil {
		return err
	}
	agent := exec.CommandContext(ctx, s.headgate, "agent", "run", "--dir", filepath.Join(r.dir, "agent"))
	agent.Env = r.env
	if err := agent.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	defer end(agent)
	if err := r.agentProven(ctx, s); err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // settle: what preflight used is given back
	return largest(agent.Process.Pid, t)
}

// largest adds the largest memory of an agent that was seen in twenty looks.
func largest(agent int, t *table) error {
	var most memory
	var pids []int
	for range 20 {
		pids = family(agent)
		m, err := memoryOf(pids)
		if err != nil {
			return err
		}
		most.whole, most.shared = max(most.whole, m.whole), max(most.shared, m.shared)
		time.Sleep(time.Second)
	}
	for _, row := range []struct {
		what  string
		bytes int64
	}{{"plain sum of RSS", most.whole}, {"what they share counted once", most.shared}} {
		t.add(fmt.Sprintf("memory of an agent, all %d processes, %s", len(pids), row.what), fmt.Sprintf("%.1f MB", float64(row.bytes)/1e6), "limit 60 MB", fmt.Sprintf("%.2f", float64(row.bytes)/60e6))
	}
	return nil
}

// agentProven waits until the one real agent is proven.
func (r *rig) agentProven(ctx context.Context, s settings) error {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		out, err := r.headgate(ctx, s.headgate, "endpoint", "list", "--rollout", "R-1", "--state", "proven")
		if err != nil {
			return err
		}
		if bytes.Contains(out, []byte("bench-agent")) {
			return nil
		}
	}
	return errors.Join(errors.New("the agent was not proven within 2 minutes"), ctx.Err())
}
