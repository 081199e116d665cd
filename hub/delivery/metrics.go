package delivery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what delivery counts. A nil *Metrics counts nothing.
type Metrics struct {
	transfers *prometheus.CounterVec
	batches   *prometheus.HistogramVec
	pushes    *prometheus.HistogramVec
	failures  *prometheus.CounterVec
}

// NewMetrics registers delivery's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbridge_transfers_total",
			Help: "Transfers by provider, the state they were finished in and the class of the outcome.",
		}, []string{"provider", "state", "class"}),
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "callbridge_batch_transfers", Help: "Transfers in one claimed batch.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200},
		}, []string{"provider"}),
		pushes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "callbridge_push_seconds", Help: "Duration of one push of a batch to a provider.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}, []string{"provider"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callbridge_store_failures_total", Help: "Steps that failed because of the store.",
		}, []string{"step"}),
	}
	reg.MustRegister(m.transfers, m.batches, m.pushes, m.failures)
	return m
}

func (m *Metrics) finished(provider, state, class string) {
	if m != nil {
		m.transfers.WithLabelValues(provider, state, class).Inc()
	}
}

func (m *Metrics) claimed(provider string, n int, _ time.Duration) {
	if m != nil {
		m.batches.WithLabelValues(provider).Observe(float64(n))
	}
}

func (m *Metrics) pushed(provider string, took time.Duration) {
	if m != nil {
		m.pushes.WithLabelValues(provider).Observe(took.Seconds())
	}
}

func (m *Metrics) storeFailed(step string) {
	if m != nil {
		m.failures.WithLabelValues(step).Inc()
	}
}
