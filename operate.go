package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/admin"
	"github.com/optiwe/callbridge/hub/server"
	"github.com/optiwe/callbridge/oauth/seal"
)

// operator is who acts with these commands, in the audit log.
const operator = "operator"

// withAdmin builds the instance without serving and lets f act on it.
func (p *program) withAdmin(ctx context.Context, f func(context.Context, *admin.Service) error) error {
	s, err := p.settings()
	if err == nil {
		if s.PublicURL == "" {
			s.PublicURL = "http://127.0.0.1" // nothing is served here
		}
		err = s.Check()
	}
	if err != nil {
		return err
	}
	srv, err := server.New(server.Config{Settings: s, Logger: p.logger(s)})
	if err != nil {
		return err //nolint:wrapcheck // says what it is
	}
	return errors.Join(explain(f(ctx, srv.Admin())), srv.Close(ctx))
}

// explain makes sentences of the service's errors.
func explain(err error) error {
	if e, ok := errors.AsType[*admin.Invalid](err); ok {
		details := make([]string, 0, len(e.Errors)+1)
		for _, f := range e.Errors {
			details = append(details, strings.TrimPrefix(f.Pointer, "/")+" "+f.Detail)
		}
		if len(details) == 0 {
			details = append(details, e.Detail)
		}
		return &usageError{errors.New(strings.Join(details, "; "))}
	}
	if e, ok := errors.AsType[*admin.Conflict](err); ok {
		return errors.New(e.Detail)
	}
	if errors.Is(err, admin.ErrNotFound) {
		return errors.New("there is no such org or key")
	}
	return err
}

func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (p *program) org() *cobra.Command {
	cmd := &cobra.Command{Use: "org", Short: "Make orgs", RunE: helpOnly}
	var id, region, language string
	create := &cobra.Command{
		Use: "create NAME", Short: "Make an org and print its id and first API key, once",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("org create takes one argument, the org's name")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withAdmin(cmd.Context(), func(ctx context.Context, a *admin.Service) error {
				o, err := a.CreateOrg(ctx, args[0], hub.OrgID(id), region, language, operator)
				if err != nil {
					return err //nolint:wrapcheck // explained by withAdmin
				}
				return p.printJSON(struct {
					OrgID         hub.OrgID `json:"org_id"`
					APIKey        string    `json:"api_key"`
					SigningSecret string    `json:"signing_secret"`
				}{o.ID, o.Key.Reveal(), o.SigningSecret.Reveal()})
			})
		},
	}
	create.Flags().StringVar(&id, "id", "", "the org's id; made up by default")
	create.Flags().StringVar(&region, "region", "", "the org's region; by default the instance's")
	create.Flags().StringVar(&language, "language", "en", "language of the texts at destinations: en or es")
	p.settingFlagsExcept(create, "region")
	cmd.AddCommand(create)
	return cmd
}

// settingFlagsExcept is settingFlags without a flag that the command has for
// itself.
func (p *program) settingFlagsExcept(cmd *cobra.Command, except string) {
	for _, v := range server.Variables() {
		if v.Flag == except {
			continue
		}
		value, ok := p.flags[v.Name]
		if !ok {
			value = new(string)
			p.flags[v.Name] = value
		}
		cmd.Flags().StringVar(value, v.Flag, "", v.Help+" ("+v.Name+")")
	}
}

func helpOnly(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("there is no command %q; see %s --help", args[0], cmd.CommandPath())}
	}
	return cmd.Help() //nolint:wrapcheck // printing help
}

func (p *program) key() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make, list and revoke API keys", RunE: helpOnly}
	cmd.AddCommand(p.keyCreate(), p.keyList(), p.keyRevoke())
	return cmd
}

// orgFlag gives the command its --org.
func (p *program) orgFlag(cmd *cobra.Command, org *string) {
	cmd.Flags().StringVar(org, "org", "", "the org's id")
	p.settingFlags(cmd)
}

func needOrg(org string) error {
	if org == "" {
		return &usageError{errors.New("--org is required: the org's id")}
	}
	return nil
}

func (p *program) keyCreate() *cobra.Command {
	var org, role, name string
	cmd := &cobra.Command{
		Use: "create --org ID --role ROLE", Short: "Make an API key and print it, once", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needOrg(org); err != nil {
				return err
			}
			r, err := hub.ParseRole(role)
			if err != nil {
				return &usageError{err}
			}
			return p.withAdmin(cmd.Context(), func(ctx context.Context, a *admin.Service) error {
				k, err := a.CreateKey(ctx, admin.Principal{Org: hub.OrgID(org), Role: hub.RoleAdmin, Actor: operator}, r, name)
				if err != nil {
					return err //nolint:wrapcheck // explained by withAdmin
				}
				return p.printJSON(struct {
					OrgID  string   `json:"org_id"`
					KeyID  string   `json:"key_id"`
					Role   hub.Role `json:"role"`
					APIKey string   `json:"api_key"`
				}{org, k.ID, k.Role, k.Text.Reveal()})
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "what the key may do: ingest, auditor or admin")
	cmd.Flags().StringVar(&name, "name", "", "what the key is for, for people")
	p.orgFlag(cmd, &org)
	return cmd
}

func (p *program) keyList() *cobra.Command {
	var org string
	cmd := &cobra.Command{
		Use: "list --org ID", Short: "List an org's API keys", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needOrg(org); err != nil {
				return err
			}
			return p.withAdmin(cmd.Context(), func(ctx context.Context, a *admin.Service) error {
				snap, err := a.Org(ctx, hub.OrgID(org))
				if err != nil {
					return err //nolint:wrapcheck // explained by withAdmin
				}
				w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
				lines := []string{"ID\tROLE\tCREATED\tBY\tNAME"}
				for _, k := range snap.Keys {
					lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", k.ID, k.Role, k.CreatedAt.Format("2006-01-02 15:04"), k.CreatedBy, k.Name))
				}
				slices.Sort(lines[1:])
				if _, err := fmt.Fprintln(w, strings.Join(lines, "\n")); err != nil {
					return fmt.Errorf("print: %w", err)
				}
				return w.Flush() //nolint:wrapcheck // writing to standard output
			})
		},
	}
	p.orgFlag(cmd, &org)
	return cmd
}

func (p *program) keyRevoke() *cobra.Command {
	var org string
	cmd := &cobra.Command{
		Use: "revoke --org ID KEY_ID", Short: "Make an API key invalid, at once and for good",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("key revoke takes one argument, the key's id; key list shows them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needOrg(org); err != nil {
				return err
			}
			return p.withAdmin(cmd.Context(), func(ctx context.Context, a *admin.Service) error {
				return a.RevokeKey(ctx, admin.Principal{Org: hub.OrgID(org), Role: hub.RoleAdmin, Actor: operator}, args[0])
			})
		},
	}
	p.orgFlag(cmd, &org)
	return cmd
}

func (p *program) keyset() *cobra.Command {
	cmd := &cobra.Command{Use: "keyset", Short: "Make and rotate the key-encryption key", RunE: helpOnly}
	cmd.AddCommand(&cobra.Command{
		Use: "new", Short: "Print a fresh keyset", Args: noArgs,
		Long: "Prints a fresh keyset on standard output. Keep it in a file that only the service can read:\n\n" +
			"  (umask 077; callbridge keyset new > keyset.json)\n\n" +
			"Whoever has it and Redis reads everything; whoever loses it has lost everything in Redis.",
		RunE: func(*cobra.Command, []string) error {
			b, err := seal.NewKeyset()
			if err != nil {
				return err //nolint:wrapcheck // says what it is
			}
			_, err = fmt.Fprintln(p.stdout, strings.TrimSpace(string(b)))
			return err //nolint:wrapcheck // writing to standard output
		},
	}, p.keysetRotate())
	return cmd
}

func (p *program) keysetRotate() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate", Short: "Add a new primary key and re-wrap every org's keys, while serving", Args: noArgs,
		Long: "Adds a key to the keyset file that CALLBRIDGE_KEYSET names, makes it the one in use, and wraps\n" +
			"every org's data keys with it. Running services read the file again by themselves. The former\n" +
			"key stays in the file for backups that were wrapped with it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.settings()
			if err == nil {
				err = s.Check()
			}
			if err != nil {
				return err
			}
			path, ok := strings.CutPrefix(s.Keyset, "file:")
			if !ok {
				return &server.SettingError{Name: "CALLBRIDGE_KEYSET", Detail: "is not a file: a key management service rotates its own keys"}
			}
			if err := seal.Rotate(path); err != nil {
				return err //nolint:wrapcheck // says what it is
			}
			srv, err := server.New(server.Config{Settings: s, Logger: p.logger(s)})
			if err != nil {
				return err //nolint:wrapcheck // says what it is
			}
			n, err := srv.Store().RewrapAll(cmd.Context())
			if err == nil {
				_, err = fmt.Fprintf(p.stdout, "new primary key in use; keys of %d orgs wrapped anew\n", n)
			}
			return errors.Join(err, srv.Close(cmd.Context()))
		},
	}
	p.settingFlags(cmd)
	return cmd
}
