// Package samples gives tests and the demo their material: twelve lifelike
// calls of the fictional company Acme (one of them twice, because it was
// corrected), the CRM and the chat workspace that fit them, and any number of
// generated calls. All people, companies and addresses are made up.
package samples

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/test/testdata"
)

// Sample is one sample call.
type Sample struct {
	Name     string // file name without extension and revision, such as "07-bluebird-contract"
	Revision int    // 1, or more for a correction of the sample of the same name
	Raw      []byte // the JSON document as a producer would post it
	Call     hub.Call
}

// Load returns the sample calls in the order of their names, a correction right
// after what it corrects. It returns an error if one of them is no valid call.
func Load() ([]Sample, error) {
	files, err := fs.Glob(testdata.Files, "calls/*.json") // sorted
	if err != nil {
		return nil, fmt.Errorf("list sample calls: %w", err)
	}
	out := make([]Sample, 0, len(files))
	for _, file := range files {
		s, err := loadFile(file)
		if err != nil {
			return nil, fmt.Errorf("sample call %s: %w", file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func loadFile(file string) (Sample, error) {
	raw, err := testdata.Files.ReadFile(file)
	if err != nil {
		return Sample{}, err
	}
	s := Sample{Name: strings.TrimSuffix(path.Base(file), ".json"), Revision: 1, Raw: raw}
	if name, revision, ok := strings.Cut(s.Name, ".r"); ok {
		s.Name = name
		if s.Revision, err = strconv.Atoi(revision); err != nil {
			return Sample{}, fmt.Errorf("revision in the file's name: %w", err)
		}
	}
	call, wrong := hub.DecodeCall(raw)
	if len(wrong) > 0 {
		errs := make([]error, len(wrong))
		for i := range wrong {
			errs[i] = wrong[i]
		}
		return Sample{}, errors.Join(errs...)
	}
	s.Call = call
	return s, nil
}

// CRM is what the Salesforce org of Acme holds before any call arrives. Its
// records refer to accounts by name.
type CRM struct {
	Users         []CRMUser        `json:"users"`
	Accounts      []CRMAccount     `json:"accounts"`
	Contacts      []CRMPerson      `json:"contacts"`
	Leads         []CRMPerson      `json:"leads"`
	Opportunities []CRMOpportunity `json:"opportunities"`
}

// CRMUser is a user of the org.
type CRMUser struct {
	Name   string `json:"name"`
	Email  string `json:"email"`
	Active bool   `json:"active"` // false: has left the company
}

// CRMAccount is a customer. Its domain is that of its website.
type CRMAccount struct {
	Name    string `json:"name"`
	Website string `json:"website"`
}

// CRMPerson is a contact or a lead.
type CRMPerson struct {
	First   string `json:"first"`
	Last    string `json:"last"`
	Email   string `json:"email,omitempty"`
	Phone   string `json:"phone,omitempty"`
	Mobile  string `json:"mobile,omitempty"`
	Title   string `json:"title,omitempty"`
	Account string `json:"account,omitempty"` // of a contact: the name of its account; "" is none
	Company string `json:"company,omitempty"` // of a lead
}

// CRMOpportunity is a deal. A stage that begins with "Closed" makes it closed.
type CRMOpportunity struct {
	Name      string `json:"name"`
	Account   string `json:"account"` // the name of its account
	Stage     string `json:"stage"`
	CloseDate string `json:"close_date"` // YYYY-MM-DD
}

// LoadCRM returns the CRM that fits the sample calls: contacts with and without
// an account, leads, open and closed opportunities, and a user who has left.
func LoadCRM() (CRM, error) {
	var c CRM
	err := read("crm.json", &c)
	return c, err
}

// Workspace is the chat workspace of Acme.
type Workspace struct {
	Users    []WorkspaceUser    `json:"users"`
	Channels []WorkspaceChannel `json:"channels"`
}

// WorkspaceUser is an account of the workspace.
type WorkspaceUser struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	RealName string `json:"real_name"`
	Title    string `json:"title,omitempty"`
	Email    string `json:"email"`
	Guest    bool   `json:"guest,omitempty"`   // from outside the company
	Deleted  bool   `json:"deleted,omitempty"` // deactivated
}

// WorkspaceChannel is a channel of the workspace.
type WorkspaceChannel struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Topic     string   `json:"topic,omitempty"`
	Private   bool     `json:"private,omitempty"`
	ExtShared bool     `json:"ext_shared,omitempty"` // shared with another company
	Members   []string `json:"members"`              // ids of users
}

// LoadWorkspace returns the chat workspace of the people who own the sample
// calls: public, private and externally shared channels, one with a guest.
func LoadWorkspace() (Workspace, error) {
	var w Workspace
	err := read("workspace.json", &w)
	return w, err
}

func read(file string, into any) error {
	raw, err := testdata.Files.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}
