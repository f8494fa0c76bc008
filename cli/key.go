package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/release/tuf"
)

func (a *app) keyCommand() *cobra.Command {
	return group("key", "Signing keys of operators and vendors: files that stay with you", a.keyNew(), a.keyShow())
}

// keyView is a key as it is shown: never its private part.
type keyView struct {
	File   string        `json:"file"`
	ID     string        `json:"id"`
	Public tuf.PublicKey `json:"public"`
}

func (a *app) keyNew() *cobra.Command {
	return &cobra.Command{
		Use: "new FILE...", Short: "Make signing keys", Args: cobra.MinimumNArgs(1),
		Long: `Make signing keys (Ed25519). Each FILE is written for its owner alone; FILE.pub
beside it is what others need. A file that exists is never replaced.`,
		RunE: func(_ *cobra.Command, args []string) error {
			var made []keyView
			for _, file := range args {
				k, err := tuf.NewKey()
				if err != nil {
					return err
				}
				if err := tuf.SaveKey(file, k); err != nil {
					return err
				}
				made = append(made, keyView{file, k.ID(), k.Public()})
			}
			a.say("Keep the key files where the server never sees them; hand out the .pub files.")
			return a.showKeys(made)
		},
	}
}

func (a *app) keyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE...", Short: "Show the public part of keys", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var shown []keyView
			for _, file := range args {
				p, err := loadPublic(file)
				if err != nil {
					return err
				}
				shown = append(shown, keyView{file, p.ID(), p})
			}
			return a.showKeys(shown)
		},
	}
}

func (a *app) showKeys(keys []keyView) error {
	return a.result(keys, func(t *table) {
		t.row("KEY ID", "FILE")
		for _, k := range keys {
			t.row(k.ID, k.File)
		}
	})
}

// loadPublic reads a public key from a .pub file or from the key itself.
func loadPublic(file string) (tuf.PublicKey, error) {
	if strings.HasSuffix(file, ".pub") {
		return tuf.LoadPublic(file)
	}
	k, err := tuf.LoadKey(file)
	if err != nil {
		return tuf.PublicKey{}, err
	}
	return k.Public(), nil
}

func loadPublics(files []string) ([]tuf.PublicKey, error) {
	var keys []tuf.PublicKey
	for _, f := range files {
		k, err := loadPublic(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func loadKeys(files []string) ([]*tuf.Key, error) {
	var keys []*tuf.Key
	for _, f := range files {
		k, err := tuf.LoadKey(f)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w; make one with: headgate key new %s", err, f)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}
