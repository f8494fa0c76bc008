package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release/sbom"
)

func (a *app) releaseSBOM() *cobra.Command {
	return &cobra.Command{
		Use: "sbom PRODUCT [VERSION FILE]", Short: "Attach a release's bill of materials, or list a product's", Args: cobra.MatchAll(cobra.RangeArgs(1, 3), notTwo),
		Long: `Attach a bill of materials, CycloneDX (JSON, XML) or SPDX 2 (JSON, tag-value), to a
release, in the place of the one before: what it lists is matched wherever the
release runs. With the product alone, list what is attached.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.listSBOMs(cmd, &headgatev1.ListSBOMsRequest{Product: args[0]})
			}
			return a.attachSBOM(cmd, &headgatev1.AttachSBOMRequest{Product: args[0], Version: args[1]}, args[0]+" "+args[1], args[2])
		},
	}
}

func notTwo(_ *cobra.Command, args []string) error {
	if len(args) == 2 {
		return usagef("want the product alone, or product, version and file")
	}
	return nil
}

func (a *app) endpointSBOM() *cobra.Command {
	return &cobra.Command{
		Use: "sbom ENDPOINT [FILE]", Short: "Attach a bill of materials of what else an endpoint has, or show it", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.listSBOMs(cmd, &headgatev1.ListSBOMsRequest{Endpoint: args[0]})
			}
			return a.attachSBOM(cmd, &headgatev1.AttachSBOMRequest{Endpoint: args[0]}, args[0], args[1])
		},
	}
}

func (a *app) attachSBOM(cmd *cobra.Command, req *headgatev1.AttachSBOMRequest, to, file string) (err error) {
	if req.Document, err = readFile(file, sbom.MaxSize); err != nil {
		return fmt.Errorf("read the bill of materials: %w", err)
	}
	doc, err := sbom.Read(req.Document)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	c, err := a.conn.connect()
	if err != nil {
		return err
	}
	if err := a.confirm("To be attached to %s, in the place of what is there: %s with %d components.", to, doc.Format, len(doc.Components)); err != nil {
		return err
	}
	res, err := call(cmd.Context(), c.sboms.AttachSBOM, req)
	if err != nil {
		return err
	}
	if n := res.Sbom.GetNameless(); n > 0 {
		a.say("Components with neither a PURL nor a CPE, which nothing can match: %d (%s).", n, strings.Join(res.NamelessSome, ", "))
	}
	return a.result(res.Sbom, func(t *table) { sbomRows(t, []*headgatev1.SBOM{res.Sbom}) })
}

func (a *app) listSBOMs(cmd *cobra.Command, req *headgatev1.ListSBOMsRequest) error {
	c, err := a.conn.connect()
	if err != nil {
		return err
	}
	res, err := call(cmd.Context(), c.sboms.ListSBOMs, req)
	if err != nil {
		return err
	}
	return a.result(res, func(t *table) { sbomRows(t, res.Sboms) })
}

func sbomRows(t *table, list []*headgatev1.SBOM) {
	t.row("OF", "FORMAT", "COMPONENTS", "NAMELESS", "ADDED", "BY", "SHA-256")
	for _, b := range list {
		of := b.Endpoint
		if of == "" {
			of = b.Product + " " + b.Version
		}
		t.row(of, b.Format, b.Components, b.Nameless, when(b.AddedUs), b.AddedBy, short(b.Digest, 16))
	}
}
