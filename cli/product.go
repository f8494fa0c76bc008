package cli

import (
	"github.com/spf13/cobra"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/release"
)

func (a *app) productCommand() *cobra.Command {
	return group("product", "What is updated", a.productAdd(), a.productList())
}

func (a *app) productAdd() *cobra.Command {
	var description string
	c := &cobra.Command{
		Use: "add VENDOR/PRODUCT", Short: "Add a product of a vendor", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := release.SplitProduct(args[0]); err != nil {
				return usageError{err}
			}
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.catalog.AddProduct, &headgatev1.AddProductRequest{
				Product: &headgatev1.Product{Name: args[0], Description: description}})
			if err != nil {
				return err
			}
			return a.showProducts(res, res.Product)
		},
	}
	c.Flags().StringVar(&description, "description", "", "one line for people")
	return c
}

func (a *app) productList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the products", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.conn.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), c.catalog.ListProducts, &headgatev1.ListProductsRequest{})
			if err != nil {
				return err
			}
			return a.showProducts(res, res.Products...)
		},
	}
}

func (a *app) showProducts(msg any, products ...*headgatev1.Product) error {
	return a.result(msg, func(t *table) {
		t.row("PRODUCT", "DESCRIPTION")
		for _, p := range products {
			t.row(p.Name, p.Description)
		}
	})
}
