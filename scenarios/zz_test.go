package scenarios_test
import ("testing";"time";"math/rand";"os";"fmt";"bytes";"github.com/lvslab/lvslab/labs";"github.com/lvslab/lvslab/scenarios")
func TestZZ(t *testing.T){
 r:=rand.New(rand.NewSource(1)); end:=time.Now().Add(15*time.Second); n:=0
 all:=labs.All()
 for time.Now().Before(end){ n++
  d:=append([]byte(nil),all[r.Intn(len(all))].Data...)
  for range 1+r.Intn(4){ switch r.Intn(4){
   case 0: d[r.Intn(len(d))]=byte(32+r.Intn(95))
   case 1: i:=r.Intn(len(d)); j:=i+r.Intn(min(200,len(d)-i)); d=append(d[:j:j],append(append([]byte(nil),d[i:j]...),d[j:]...)...)
   case 2: i:=r.Intn(len(d)); j:=i+r.Intn(min(20,len(d)-i)); d=append(d[:i:i],d[j:]...)
   case 3: i:=r.Intn(len(d)); d[i]=[]byte("\n :-[]{}&*09")[r.Intn(12)]
  }; if len(d)<3 {break}}
  s:=time.Now()
  l,err:=scenarios.Load("f.yaml","f",d)
  if err==nil { for _,x:=range l { if _,e:=x.Plan();e!=nil{t.Error(e)}}} else { for _,line:=range bytes.Split([]byte(err.Error()),[]byte("\n")){ if !bytes.HasPrefix(line,[]byte("f.yaml:")){t.Errorf("%q",line)}}}
  if took:=time.Since(s);took>300*time.Millisecond{ os.WriteFile(fmt.Sprintf("/tmp/core/slow-%d",n),d,0o644); t.Log(took, err) }
 }
 t.Log(n)
}
