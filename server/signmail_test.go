package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/notify"
	psirtintake "github.com/headgate/headgate/psirt/intake"
)

// The key that opens reports may sign mail as well; one that cannot sign, or is not
// there, stops the server's start by the name of its setting.
func TestMailIsSignedByTheConfiguredKey(t *testing.T) {
	k, err := psirtintake.NewKey("Headgate throw-away", "security@headgate.example", time.Now())
	check(t, err)
	secret, err := k.Armour()
	check(t, err)
	public, err := k.Public()
	check(t, err)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	cfg := testConfig(t)
	cfg.Now = time.Now
	mail := MailConfig{Host: "127.0.0.1", Port: 25, From: "psirt@example.org", TLS: "none", SignKeyFile: write("secret.asc", secret)}
	cfg.Mail = &mail
	out, err := cfg.transports()
	check(t, err)
	if out[notify.Email] == nil {
		t.Error("no mail goes out")
	}
	for name, path := range map[string]string{"public": write("public.asc", public), "missing": filepath.Join(dir, "none.asc")} {
		mail.SignKeyFile = path
		if _, err := cfg.transports(); err == nil || !strings.Contains(err.Error(), "mail: sign_key_file") {
			t.Errorf("%s: %v", name, err)
		}
		o := OutgoingMail{Host: "127.0.0.1", Port: 25, From: "psirt@example.org", TLS: "none", SignKeyFile: path}
		if _, err := o.sender(time.Now()); err == nil || !strings.Contains(err.Error(), "outgoing_mail: sign_key_file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
