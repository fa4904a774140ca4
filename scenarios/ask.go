package scenarios

import "github.com/lvslab/lvslab/scenarios/ipvs"

// Service is a virtual service by its name, as its directors are told.
func (l *Lab) Service(name string) (ipvs.Service, bool) {
	v, ok := l.VirtualServices.Get(name)
	if !ok {
		return ipvs.Service{}, false
	}
	return v.service(), true
}
