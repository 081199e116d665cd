package directory

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/optiwe/callbridge/hub"
	"github.com/optiwe/callbridge/hub/consent"
)

// Loader reads configurations; hub/store implements it.
type Loader interface {
	LoadOrg(ctx context.Context, org hub.OrgID) (*Snapshot, error)
	OrgVersion(ctx context.Context, org hub.OrgID) (int64, error)
}

// Cache keeps snapshots in memory, with their grants compiled. A snapshot may
// be out of date; whoever decides by it says its version to the store, which
// refuses an old one. The zero Cache is not usable; see [NewCache].
type Cache struct {
	load Loader
	size int

	flight singleflight.Group
	mu     sync.Mutex
	byOrg  map[hub.OrgID]*Snapshot
}

// NewCache returns a cache of at most size orgs.
func NewCache(load Loader, size int) *Cache {
	return &Cache{load: load, size: size, byOrg: map[hub.OrgID]*Snapshot{}}
}

// Get returns a snapshot that may be out of date.
func (c *Cache) Get(ctx context.Context, org hub.OrgID) (*Snapshot, error) {
	if s := c.find(org); s != nil {
		return s, nil
	}
	return c.Reload(ctx, org)
}

// AtLeast returns a snapshot of that version or a newer one.
func (c *Cache) AtLeast(ctx context.Context, org hub.OrgID, version int64) (*Snapshot, error) {
	if s := c.find(org); s != nil && s.Version >= version {
		return s, nil
	}
	return c.Reload(ctx, org)
}

// Fresh returns a snapshot that was the newest at some moment after the call
// began, for one round trip that asks for the version.
func (c *Cache) Fresh(ctx context.Context, org hub.OrgID) (*Snapshot, error) {
	s := c.find(org)
	if s == nil {
		return c.Reload(ctx, org)
	}
	version, err := c.load.OrgVersion(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if s.Version >= version {
		return s, nil
	}
	return c.Reload(ctx, org)
}

// Reload reads the newest snapshot. Of callers at the same time one reads.
func (c *Cache) Reload(ctx context.Context, org hub.OrgID) (*Snapshot, error) {
	v, err, shared := c.flight.Do(string(org), func() (any, error) {
		return c.read(ctx, org)
	})
	if err != nil && shared && ctx.Err() == nil {
		// The reader's own context may have ended, which says nothing to us.
		return c.read(ctx, org)
	}
	if err != nil {
		return nil, err
	}
	s, _ := v.(*Snapshot)
	return s, nil
}

func (c *Cache) read(ctx context.Context, org hub.OrgID) (*Snapshot, error) {
	s, err := c.load.LoadOrg(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byOrg[org]; old != nil {
		if old.Version > s.Version {
			return old, nil
		}
		s.policies = old.policies // grants are immutable, and so is what they compile to
	} else {
		if len(c.byOrg) >= c.size {
			c.dropOne()
		}
		s.policies = &policies{}
	}
	c.byOrg[org] = s
	return s, nil
}

// dropOne makes room. Which org goes is left to chance: those in use come back
// for one round trip.
func (c *Cache) dropOne() {
	for org := range c.byOrg {
		delete(c.byOrg, org)
		return
	}
}

func (c *Cache) find(org hub.OrgID) *Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byOrg[org]
}

type policyKey struct {
	integration hub.IntegrationID
	number      int
}

// policies keeps compiled grants, for all snapshots of one org.
type policies struct{ m sync.Map } // policyKey -> *consent.Policy

// Policy returns a grant of the integration made ready to decide with, or nil
// if there is no grant of that number. A grant that does not compile was saved
// by a newer or an older version of the program; that is an error, and nothing
// is shared by it.
func (s *Snapshot) Policy(i *Integration, number int) (*consent.Policy, error) {
	g, ok := i.Grant(number)
	if !ok {
		return nil, nil //nolint:nilnil // no grant is an answer, and no policy is what decides "not enabled"
	}
	key := policyKey{i.ID, number}
	if s.policies != nil {
		if v, ok := s.policies.m.Load(key); ok {
			p, _ := v.(*consent.Policy)
			return p, nil
		}
	}
	p, problems := consent.Compile(g)
	if len(problems) > 0 {
		return nil, fmt.Errorf("directory: grant %d of %s does not compile: %w", number, i.ID, problems[0])
	}
	if s.policies != nil {
		s.policies.m.Store(key, p)
	}
	return p, nil
}

// OrgInfo returns what rules may know of the org.
func (s *Snapshot) OrgInfo() consent.OrgInfo {
	return consent.OrgInfo{ID: s.Org.ID, Name: s.Org.Name, Region: s.Org.Region, Language: s.Org.Language}
}

// Situation is all that a decision about one integration depends on beside the
// call. accepted is the number of the grant in force when the call was
// accepted; 0 means now.
func (s *Snapshot) Situation(i *Integration, accepted int, termsVersion string) (consent.Situation, error) {
	policy, err := s.Policy(i, i.Current)
	if err != nil {
		return consent.Situation{}, err
	}
	sit := consent.Situation{
		Org:          s.Org.State,
		OrgInfo:      s.OrgInfo(),
		Connection:   hub.Disconnected,
		Enabled:      i.Enabled,
		TermsVersion: termsVersion,
		Policy:       policy,
	}
	sit.ConnectionID = i.Terms().Connection
	if c, ok := s.Connections[sit.ConnectionID]; ok {
		sit.Connection = c.State
	}
	if accepted != 0 && accepted != i.Current {
		if sit.AcceptedUnder, err = s.Policy(i, accepted); err != nil {
			return consent.Situation{}, err
		}
	}
	return sit, nil
}
